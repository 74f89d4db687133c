"""Where configuration and data lie for this user: /etc and /var/lib as root, else ~/.kohakuriver."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "config.toml"


@dataclass(frozen=True, kw_only=True)
class Places:
    """The folders that the defaults are made of."""

    root: bool
    home: Path
    etc: Path = Path("/etc/kohakuriver")
    var: Path = Path("/var/lib/kohakuriver")
    #: what systemd made for the unit (`StateDirectory=`)
    state: tuple[Path, ...] = ()

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> "Places":
        """The places of the user who runs this."""
        home = environ.get("HOME", "")
        state = tuple(Path(part) for part in environ.get("STATE_DIRECTORY", "").split(":") if part.startswith("/"))
        return cls(
            root=os.geteuid() == 0,
            home=Path(home) if home.startswith("/") else Path("~").expanduser(),
            state=state,
        )

    @property
    def config_dir(self) -> Path:
        """The folder of config.toml."""
        return self.etc if self.root else self.home / ".kohakuriver"

    @property
    def config_file(self) -> Path:
        """The file that is read when none is named."""
        return self.config_dir / FILE_NAME

    def data_dir(self, role: str) -> Path:
        """The folder of a role's data; systemd's, where a unit asked for `kohakuriver/<role>`."""
        for path in self.state:
            if path.name == role and path.parent.name == "kohakuriver":
                return path
        return (self.var if self.root else self.home / ".kohakuriver") / role
