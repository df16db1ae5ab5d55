"""Settings of notifications: ``[[notify]]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_OF_WEBHOOK = ("url", "token_file", "secret_file", "include_patient")
_OF_HL7 = (
    "host", "port", "tls", "sending_application", "sending_facility", "receiving_application",
    "receiving_facility", "assigning_authority", "encoding",
)  # fmt: skip

Pattern = Annotated[str, Field(min_length=1, max_length=128)]
# HD components of HL7 Table 0361 and 0362; separators would be escaped, and nobody expects that.
Hl7Name = Annotated[str, Field(max_length=180, pattern=r"^[^|^~\\&\x00-\x1f\x7f]*$")]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NotifyConditions(_Settings):
    """Which analyses a target is told of; all conditions must hold."""

    labels: tuple[Pattern, ...] = Field(
        default=(),
        description=(
            "Names of findings, with * and ?, case does not count; an empty list is all of them."
        ),
    )
    presence: tuple[Literal["Present", "Undetermined", "Absent"], ...] = Field(
        default=("Present",), min_length=1, description="What the finding was said to be."
    )
    min_probability: float = Field(
        default=0.0, ge=0, le=1, description="Lowest probability of the finding, 0 to 1."
    )
    models: tuple[Pattern, ...] = Field(
        default=(), description="Names of models, with * and ?; an empty list is all of them."
    )
    states: tuple[Literal["done", "not_analysed", "failed"], ...] = Field(
        default=("done",),
        min_length=1,
        description=(
            "How the analysis ended: done, not_analysed or failed. The conditions on findings "
            "concern done alone."
        ),
    )
    stat_only: bool = Field(
        default=False, description="Only analyses that were asked for with priority stat."
    )


class NotifySettings(_Settings):
    """Somebody who is told of findings: by a webhook (url) or by HL7 v2 over MLLP (host, port)."""

    name: str = Field(
        min_length=1,
        max_length=40,
        pattern=r"^[^:]+$",
        description="Name of the target in logs and notifications.",
    )
    kind: Literal["webhook", "hl7"] = Field(
        description=(
            "webhook: a JSON document by HTTP POST; hl7: an HL7 v2.5.1 ORU^R01 message over MLLP."
        )
    )
    when: NotifyConditions = Field(
        default_factory=NotifyConditions,
        description="Which analyses it is told of; without conditions: of findings Present.",
    )
    url: str | None = Field(
        default=None,
        description="webhook: address to POST to, https or http; redirects are not followed.",
    )
    token_file: Path | None = Field(
        default=None,
        description="webhook: file with a bearer token; read before each attempt.",
    )
    secret_file: Path | None = Field(
        default=None,
        description=(
            "webhook: file with a secret; X-Preread-Signature is then sha256= and the HMAC-SHA256 "
            "of the body in hexadecimal, so that the receiver can verify it."
        ),
    )
    include_patient: bool = Field(
        default=False,
        description=(
            "webhook: name the patient and the accession number too; otherwise UIDs alone say "
            "whose finding it is. An HL7 message always names them, in PID and OBR."
        ),
    )
    host: str | None = Field(default=None, description="hl7: host name or address.")
    port: int | None = Field(default=None, ge=1, le=65535, description="hl7: TCP port.")
    tls: bool = Field(default=False, description="hl7: speak TLS 1.2 or newer.")
    sending_application: Hl7Name = Field(default="PREREAD", description="hl7: MSH-3.")
    sending_facility: Hl7Name = Field(default="", description="hl7: MSH-4.")
    receiving_application: Hl7Name = Field(default="", description="hl7: MSH-5.")
    receiving_facility: Hl7Name = Field(default="", description="hl7: MSH-6.")
    assigning_authority: Hl7Name = Field(
        default="",
        description="hl7: assigning authority in PID-3 where the images name no Issuer of "
        "Patient ID.",
    )
    encoding: Literal["UNICODE UTF-8", "8859/1"] = Field(
        default="UNICODE UTF-8",
        description=(
            "hl7: character set of the message, as MSH-18 names it. In 8859/1 the groups of a "
            "name that it cannot write are left out."
        ),
    )
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) that may sign that of the target; without one the "
        "system's.",
    )
    timeout: float = Field(
        default=30.0, gt=0, description="Seconds that one attempt may take altogether."
    )
    max_attempts: int = Field(
        default=50, ge=1, description="Attempts after which a notification becomes a dead letter."
    )
    deadline_hours: float = Field(
        default=24.0,
        gt=0,
        description="Age at which a notification becomes a dead letter, however often it was "
        "tried.",
    )
    backoff_first_seconds: float = Field(
        default=2.0, gt=0, description="Wait after the first failed attempt; doubles each time."
    )
    backoff_max_seconds: float = Field(
        default=300.0, gt=0, description="Longest wait between two attempts."
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is no address such as https://host/path")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a password, which logs would show; use token_file")
        if not url.isascii() or any(one.isspace() for one in url) or parts.fragment:
            raise ValueError("has characters that an address cannot have; write them as %20")
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("names no port from 0 to 65535") from None
        return url

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> NotifySettings:
        if self.kind == "webhook" and self.url is None:
            raise ValueError(f"{self.name}: a webhook needs a url")
        if self.kind == "hl7" and (self.host is None or self.port is None):
            raise ValueError(f"{self.name}: hl7 needs host and port")
        foreign = _OF_HL7 if self.kind == "webhook" else _OF_WEBHOOK
        given = sorted(self.model_fields_set.intersection(foreign))
        if given:
            raise ValueError(
                f'{self.name}: {", ".join(given)} has no effect with kind = "{self.kind}"'
            )
        return self
