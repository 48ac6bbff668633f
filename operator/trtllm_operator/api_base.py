"""What every API type is made of: the base model, the CEL helper and the bounded strings."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

_PLACEHOLDER = re.compile("%[sd]")


def cel(rule: str, message: str, *values: str) -> JsonDict:
    """Return one validation rule; ``values`` are CEL expressions for the %s and %d of the message.

    The API server estimates the cost of ``string(x) + ...`` as unbounded and refuses it, but not that of ``format``. It
    drops a text with a line break in it, which a value may bring along, for the one without values.
    """
    if not values:
        return {"rule": rule, "message": message}
    listed = ", ".join(f"dyn({value})" for value in values)
    without = _PLACEHOLDER.sub("…", message)
    return {"rule": rule, "message": without, "messageExpression": f"'{message}'.format([{listed}])"}


def rules(*listed: JsonDict) -> ConfigDict:
    """Return the configuration of a model that the API server holds to these rules."""
    return ConfigDict(json_schema_extra={"x-kubernetes-validations": list(listed)})


class ApiModel(BaseModel):
    """Base of every API type: camelCase on the wire, frozen in memory, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_QUALIFIED_NAME = f"^({_SUBDOMAIN}/)?{_LABEL}$"

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=f"^{_SUBDOMAIN}$"),
]
"""Name of a Kubernetes object: a DNS subdomain."""

NamespaceName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""Name of a namespace: a DNS label."""

ServiceName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
"""Name of a Service: a DNS label that starts with a letter."""

LabelKey = Annotated[str, Field(min_length=1, max_length=253, pattern=_QUALIFIED_NAME)]
"""Key of a label or name of a resource: an optional DNS prefix and a name."""

ResourceName = Annotated[str, Field(min_length=1, max_length=253, pattern=f"^{_SUBDOMAIN}/{_LABEL}$")]
"""Name of an extended resource: a DNS domain and a name."""

LabelValue = Annotated[str, Field(max_length=63, pattern=rf"^({_LABEL})?$")]
AnnotationValue = Annotated[str, Field(max_length=4096)]

_BAD_KEYS = f"self.filter(k, size(k) > 253 || !k.matches(r'{_QUALIFIED_NAME}'))"

QUALIFIED_KEYS: JsonDict = {
    "x-kubernetes-validations": [
        cel(
            f"{_BAD_KEYS}.size() == 0",
            "%s is no valid key: it must be at most 63 letters, digits, dashes, underscores and dots, which may follow"
            " a DNS name and a slash, such as example.com/team",
            f"{_BAD_KEYS}[0]",
        )
    ]
}
"""Holds the keys of a map to the form of a label's key; a pattern can do so for values only."""

Labels = Annotated[dict[str, LabelValue], Field(max_length=32, json_schema_extra=QUALIFIED_KEYS)]
Annotations = Annotated[dict[str, AnnotationValue], Field(max_length=32, json_schema_extra=QUALIFIED_KEYS)]

Hostname = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=rf"^(\*\.)?{_SUBDOMAIN}$",
    ),
]
"""Host name, lower case; the first label may be a wildcard."""

Size = Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]*(\.[0-9]+)?(Mi|Gi|Ti|M|G|T)$")]
"""Bytes with a unit: binary (Mi, Gi, Ti) or decimal (M, G, T)."""

Quantity = Annotated[
    str,
    Field(
        max_length=32,
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 0},
    ),
    BeforeValidator(_text),
]
"""Amount of a resource as pods state it, never negative; a bare integer is accepted."""

Decimal = Annotated[str, Field(max_length=16, pattern=r"^[0-9]+(\.[0-9]+)?$")]
"""Decimal number as text: the API has no floating-point fields, which clients round differently."""
