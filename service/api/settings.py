"""Settings of the service: one typed object, from the command line."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edge.errors import BadInput

if TYPE_CHECKING:
    from service.jobs.model import Limits


class Settings(BaseModel):
    """Where the service listens, what it keeps where, and how much it takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8700, ge=0, le=65_535, description="Port to listen on; 0 for any free one.")
    folder: Path = Field(
        Path("understudy-service"),
        validate_default=True,
        description="Folder of everything that the service keeps.",
    )
    database: str | None = Field(
        None, description="SQLAlchemy URL of the store; else SQLite in the folder."
    )
    runner: str = Field(
        "local", description="Where jobs run: local, or http://HEAD:8265 of a Ray cluster."
    )
    jobs: int = Field(1, ge=0, le=1000, description="Jobs at a time; 0 runs none.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Names by which the service is reached, beside its own address."
    )
    max_upload_mb: int = Field(4096, ge=1, description="Largest upload, MB.")
    max_tenant_gb: float = Field(
        50.0, gt=0, description="Most that all uploads of one tenant may take, GB."
    )
    max_queued: int = Field(1000, ge=1, description="Most jobs of one tenant that wait or run.")
    secure_cookies: bool = Field(
        False, description="Cookies over HTTPS alone, for a service behind a TLS proxy."
    )

    @field_validator("folder")
    @classmethod
    def _whole_path(cls, folder: Path) -> Path:
        return folder.absolute()

    @property
    def url(self) -> str:
        """Of the store's database."""
        return self.database or f"sqlite:///{self.folder / 'understudy.db'}"

    @property
    def loopback(self) -> bool:
        """Whether nobody else's machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def limits(self) -> Limits:
        """Of a tenant without limits of its own."""
        from service.jobs.model import Limits  # every command's help is made of this module

        return Limits(bytes=int(self.max_tenant_gb * 1e9), queued=self.max_queued)


def make_settings(**values: object) -> Settings:
    """Settings of the values that were given; others take their defaults.

    Raises:
        BadInput: names the setting, what it holds and what it may hold.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        known = Settings.model_fields.get(name)
        raise BadInput(
            f"the setting {name!r} of the service cannot be used",
            value=first["input"],
            bound=first["msg"].removeprefix("Input should be "),
            remedy="" if known is None else str(known.description),
            field=name,
        ) from None
