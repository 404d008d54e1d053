# What the units of a package say otherwise than those that are copied by hand.
1,/^$/c\
# Part of the package bascule. "systemctl edit" adds to it; README.Debian says how to begin.\

s|/opt/bascule/bin/bascule|/usr/bin/bascule|
/^# The virtual environment of the guide; /c\
# The program of this package.
