"""Settings of routing rules: ``[[rule]]`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from .conditions import Condition, check
from .settings import AePattern


def _as_list(given: object) -> object:
    return (given,) if isinstance(given, str) else given


AeTitles = Annotated[tuple[AePattern, ...], BeforeValidator(_as_list)]


class RuleSettings(BaseModel):
    """A routing rule: which series go to which model. See `scp.conditions` for ``when``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, description="Name of the rule in explanations.")
    model: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Model that reads the series. A rule without one gives its priority to what other "
            "rules give to a model without saying a priority."
        ),
    )
    priority: Literal["stat", "routine"] | None = Field(
        default=None,
        description=(
            "stat goes before routine; without one that of the first rule without a model that "
            "holds, else the priority that the images were requested with."
        ),
    )
    shadow: bool = Field(
        default=False,
        description=(
            "Read and record, but deliver nothing: a model on trial. Where images of one series "
            "have the model by several rules, nothing is delivered only if all of them say so. "
            "What was read on trial stays here, also when the very same images come again by a "
            "rule that delivers."
        ),
    )
    enabled: bool = Field(
        default=True, description="false switches the rule off, a built-in one of that name too."
    )
    calling_ae: AeTitles = Field(
        default=(),
        description=(
            "AE titles, one or a list, of which one must have sent an image of the series; * and ? "
            "are wildcards, case counts. Empty: whoever sent it."
        ),
    )
    called_ae: AeTitles = Field(
        default=(),
        description=(
            "AE titles, one or a list, by one of which the sender must have called this node; * "
            "and ? are wildcards, case counts. Empty: whichever."
        ),
    )
    when: dict[str, Condition] = Field(
        default={}, description="Conditions on DICOM attributes that must all hold."
    )

    @field_validator("when")
    @classmethod
    def _known_keywords(cls, when: dict[str, Condition]) -> dict[str, Condition]:
        check(when)
        return when

    @model_validator(mode="after")
    def _says_something(self) -> RuleSettings:
        if not (self.when or self.calling_ae or self.called_ae):
            raise ValueError(f"{self.name}: say in when, calling_ae or called_ae what it is for")
        if self.model is None and (self.priority is None or self.shadow):
            raise ValueError(
                f"{self.name}: name the model that reads the series, or set priority (without "
                "shadow) for a rule that only says how urgent it is"
            )
        return self
