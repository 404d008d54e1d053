"""What is installed: wheel, sdist, Debian package, and the pages about putting them to use."""
