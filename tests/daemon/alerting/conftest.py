"""What the tests of messages share."""

from pathlib import Path

import pytest

from tests.daemon.alerting.made import PASSWORD


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\nignored\n")
    path.chmod(0o600)
    return path
