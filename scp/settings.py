"""Settings of this room: ``[scp]``, ``[[ae]]`` and ``[[destination]]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .patterns import address_pattern, ae_pattern

AeTitle = Annotated[
    str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~][ -\[\]-~]*$")
]
AePattern = Annotated[str, AfterValidator(ae_pattern)]
AddressPattern = Annotated[str, AfterValidator(address_pattern)]
# Kinds of result objects: structured report, secondary capture, key object selection, segmentation.
# Which ones a PACS can show differs.
ObjectKind = Literal["sr", "sc", "ko", "seg"]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScpSettings(_Settings):
    """How the node receives: its AE title, limits and when a series counts as complete."""

    ae_title: AeTitle = Field(default="PREREAD", description="AE title of this node.")
    host: str = Field(
        default="0.0.0.0",  # noqa: S104 - a DICOM node is there to be reached
        description="Address to listen on; 0.0.0.0 is every IPv4 address, :: every IPv6 one.",
    )
    port: int = Field(
        default=11112, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one."
    )
    transport: Literal["streaming", "pynetdicom"] = Field(
        default="streaming",
        description=(
            "How associations are read: streaming writes images to disk as they come in; "
            "pynetdicom is the reactor of that library, slower, for comparison."
        ),
    )
    acceptors: int = Field(
        default=0,
        ge=0,
        le=64,
        description=(
            "Processes that receive on this port; 0: one on SQLite, as many as CPU cores (at most "
            "8) on PostgreSQL. SQLite takes at most 2."
        ),
    )
    calling_ae_allow: tuple[AePattern, ...] = Field(
        default=(),
        description=(
            "AE titles that may open an association; * and ? are wildcards, case counts. For an "
            "empty list see scp.access."
        ),
    )
    called_ae_allow: tuple[AePattern, ...] = Field(
        default=(),
        description=(
            "AE titles by which this node may be called, with * and ?; list scp.ae_title to be "
            "called by no other name. For an empty list see scp.access."
        ),
    )
    address_allow: tuple[AddressPattern, ...] = Field(
        default=(),
        description=(
            "Addresses that may connect: exact (192.0.2.7), with wildcards (192.0.2.*) or networks "
            "(192.0.2.0/24); other connections are closed at once. For an empty list see "
            "scp.access."
        ),
    )
    access: Literal["open", "closed"] = Field(
        default="open",
        description=(
            "What an empty list of calling_ae_allow, called_ae_allow or address_allow means: open: "
            'it lets everybody in; closed: nobody, so that each list must be filled (with "*" for '
            "everybody)."
        ),
    )
    quiet_seconds: float = Field(
        default=5.0,
        gt=0,
        description="A series may be complete when no image of it came for so long.",
    )
    open_association_seconds: float = Field(
        default=60.0,
        gt=0,
        description=(
            "A series also waits for an association that is still open, until that has been "
            "silent on the series for so long."
        ),
    )
    poll_seconds: float = Field(
        default=0.5,
        gt=0,
        description=(
            "How often open series are looked at; also at the moment when the next may be complete."
        ),
    )
    max_associations: int = Field(
        default=200,
        ge=1,
        description=(
            "Associations open at once in each acceptor process; more are rejected, transiently."
        ),
    )
    ae_limits: dict[AePattern, PositiveInt] = Field(
        default={},
        description=(
            "Associations open at once from one calling AE title, in each acceptor process: a "
            "table of AE title (with * and ?) = number. The first pattern that matches counts; "
            "more are rejected, transiently."
        ),
    )
    max_pdu: int = Field(
        default=131072,
        ge=0,
        le=2**32 - 1,
        description="Largest PDU to receive, in bytes (PS3.8 Annex D.1); 0 is any size.",
    )
    acse_timeout: float = Field(
        default=30.0, gt=0, description="Seconds to wait for association messages."
    )
    dimse_timeout: float = Field(
        default=300.0, gt=0, description="Seconds to wait for a DIMSE message."
    )
    network_timeout: float = Field(
        default=600.0, gt=0, description="Seconds of silence after which an association is aborted."
    )
    shutdown_seconds: float = Field(
        default=20.0,
        ge=0,
        description="How long open associations may go on after a stop before they are aborted.",
    )
    min_free_disk_mb: int = Field(
        default=1024,
        ge=0,
        description=(
            "Below so much free space (MiB) in data_dir images are refused with 0xA700 and new "
            "associations for images rejected, transiently; C-ECHO and a PACS that confirms what "
            "it keeps are answered."
        ),
    )
    max_unindexed: int = Field(
        default=100_000,
        ge=1,
        description=(
            "While the database is away images are still kept, and indexed when it is back; with "
            "so many waiting for that, in each acceptor process, more are refused with 0xA700."
        ),
    )
    tls_certificate: Path | None = Field(
        default=None,
        description=(
            "Certificate of this node (PEM), its own first and then those between it and the root. "
            "With one only TLS 1.2 or newer is spoken on scp.port (2762 is usual then)."
        ),
    )
    tls_key: Path | None = Field(
        default=None,
        description="Private key of tls_certificate (PEM); without one it stands in that file.",
    )
    tls_key_password_file: Path | None = Field(
        default=None,
        description="File whose first line is the password of an encrypted private key.",
    )
    tls_ca: Path | None = Field(
        default=None,
        description=(
            "Certificates (PEM) that may sign those of senders. With it every sender must show a "
            "certificate, which is checked; without it none is asked for."
        ),
    )
    builtin_rules: bool = Field(
        default=True,
        description=(
            "Use the built-in routing rules beside those of the configuration; a [[rule]] with "
            "the name of a built-in one replaces it."
        ),
    )

    @field_validator("access")
    @classmethod
    def _somebody_may_come_in(cls, access: str, info: ValidationInfo) -> str:
        lists = ("calling_ae_allow", "called_ae_allow", "address_allow")
        empty = [name for name in lists if info.data.get(name) == ()]
        if access == "closed" and empty:
            raise ValueError(
                f"closed, and {', '.join(empty)} empty: nobody could come in; list who may "
                '("*" for everybody)'
            )
        return access

    @field_validator("tls_key", "tls_key_password_file", "tls_ca")
    @classmethod
    def _only_with_a_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("tls_certificate", path) is None:
            raise ValueError("has no effect without tls_certificate: set that too")
        return path


class AeSettings(_Settings):
    """A peer that this node may have to call back: where its AE title is reached."""

    name: AeTitle = Field(description="AE title with which the peer calls this node.")
    host: str = Field(description="Its host name or address.")
    port: int = Field(ge=1, le=65535, description="TCP port on which it listens.")
    ae_title: AeTitle | None = Field(
        default=None, description="AE title to call it by; without one its name."
    )


class DestinationSettings(_Settings):
    """A PACS that receives results, by C-STORE (ae_title, host, port) or STOW-RS (url)."""

    name: str = Field(
        min_length=1,
        max_length=40,
        pattern=r"^[^:]+$",
        description="Name of the destination in logs and deliveries.",
    )
    ae_title: AeTitle | None = Field(default=None, description="AE title of the destination.")
    host: str | None = Field(default=None, description="Its host name or address.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Its TCP port.")
    url: str | None = Field(
        default=None,
        description=(
            "Base address of its DICOMweb service, to send by STOW-RS instead of C-STORE, such as "
            "https://pacs/dicom-web."
        ),
    )
    token_file: Path | None = Field(
        default=None, description="File with the bearer token of url; read before each attempt."
    )
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) that may sign that of url; without one the system's.",
    )
    reply: bool = Field(
        default=False,
        description=(
            "Results go back to whoever sent the images: ae_title, host and port come from the "
            "[[ae]] whose name is the calling AE title; of others nothing is sent."
        ),
    )
    from_ae: tuple[AePattern, ...] = Field(
        default=(),
        description=(
            "Only results of images from these calling AE titles, with * and ?; an empty list is "
            "all of them."
        ),
    )
    calling_ae: AeTitle | None = Field(
        default=None, description="AE title to call with; without one that of scp.ae_title."
    )
    objects: tuple[ObjectKind, ...] = Field(
        default=("sr", "sc"),
        description=(
            "Kinds of result objects that it receives: sr (structured report), sc (picture as "
            "secondary capture), ko (key object selection of CT slices), seg (segmentation)."
        ),
    )
    proof: Literal["none", "find", "commit"] = Field(
        default="none",
        description=(
            "When a delivery counts as done: none: when it was answered with success; find: when a "
            "C-FIND (QIDO-RS for a url) shows the object; commit: when storage commitment says so, "
            "or, where no answer comes, a C-FIND shows it."
        ),
    )
    commit_hold_seconds: float = Field(
        default=5.0,
        ge=0,
        description=(
            "How long the association stays open for the answer to a storage commitment request; "
            "later answers come on an association of their own."
        ),
    )
    commit_seconds: float = Field(
        default=300.0,
        gt=0,
        description=(
            "How long to wait for the answer to a storage commitment request before a C-FIND asks."
        ),
    )
    max_attempts: int = Field(
        default=20, ge=1, description="Attempts after which a delivery becomes a dead letter."
    )
    deadline_hours: float = Field(
        default=168.0,
        gt=0,
        description="Age at which a delivery becomes a dead letter, however often it was tried.",
    )
    backoff_first_seconds: float = Field(
        default=5.0, gt=0, description="Wait after the first failed attempt; doubles each time."
    )
    backoff_max_seconds: float = Field(
        default=900.0, gt=0, description="Longest wait between two attempts."
    )
    breaker_failures: int = Field(
        default=3,
        ge=1,
        description=(
            "After so many failures in a row to reach the destination nothing is tried but one "
            "delivery at a time, so that the others keep their attempts."
        ),
    )
    timeout: float = Field(
        default=60.0,
        gt=0,
        description="Seconds that one association with the destination may take for one object.",
    )

    @model_validator(mode="after")
    def _can_be_reached(self) -> DestinationSettings:
        address = (self.ae_title, self.host, self.port)
        ways = {
            "ae_title, host and port": any(part is not None for part in address),
            "url": self.url is not None,
            "reply": self.reply,
        }
        chosen = [name for name, is_chosen in ways.items() if is_chosen]
        if len(chosen) != 1:
            said = " and ".join(chosen) or "nothing"
            raise ValueError(
                f"{self.name}: set one of {', '.join(ways)} to say where it is, not {said}"
            )
        if not self.reply and self.url is None and None in address:
            raise ValueError(f"{self.name}: ae_title, host and port belong together; set all three")
        if self.url is not None and self.proof == "commit":
            raise ValueError(f'{self.name}: a url has no storage commitment; set proof = "find"')
        return self
