"""Node and pod affinity, and spreading: as Kubernetes has them, so that whole blocks can be copied from a pod."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from trtllm_operator.api_base import ApiModel, LabelKey, Labels, LabelValue, NamespaceName, cel, rules


class NodeOperator(StrEnum):
    """How a node selector requirement compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class LabelOperator(StrEnum):
    """How a label selector requirement compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


Values = Annotated[tuple[LabelValue, ...], Field(max_length=32)]
Keys = Annotated[tuple[LabelKey, ...], Field(max_length=16)]
Weight = Annotated[int, Field(ge=1, le=100)]


class NodeRequirement(ApiModel):
    """One condition on a node's labels."""

    model_config = rules(
        cel(
            "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0"
            " : self.operator in ['Gt', 'Lt'] ? has(self.values) && size(self.values) == 1"
            " && self.values[0].matches('^-?[0-9]+$') : !has(self.values) || size(self.values) == 0",
            "affinity: operator %s of key %s needs values for In and NotIn, one integer for Gt and Lt, none for Exists"
            " and DoesNotExist; got %d",
            "self.operator",
            "self.key",
            "has(self.values) ? size(self.values) : 0",
        )
    )

    key: LabelKey
    """Key of the label."""

    operator: NodeOperator
    """How to compare."""

    values: Values = ()
    """Values to compare with."""


class NodeSelectorTerm(ApiModel):
    """Conditions on a node that hold together."""

    match_expressions: Annotated[tuple[NodeRequirement, ...], Field(min_length=1, max_length=16)]
    """Conditions on the node's labels."""


class NodeSelector(ApiModel):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[tuple[NodeSelectorTerm, ...], Field(min_length=1, max_length=16)]
    """Terms; a node fits when one holds."""


class PreferredNode(ApiModel):
    """A preference among nodes."""

    weight: Weight
    """Weight, 1 to 100."""

    preference: NodeSelectorTerm
    """Conditions on the node."""


class NodeAffinity(ApiModel):
    """On which nodes pods run."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    """What a node must fulfil."""

    preferred_during_scheduling_ignored_during_execution: Annotated[
        tuple[PreferredNode, ...], Field(max_length=16)
    ] = ()
    """What is preferred."""


class LabelRequirement(ApiModel):
    """One condition on labels."""

    model_config = rules(
        cel(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "labelSelector: operator %s of key %s needs values for In and NotIn, none for Exists and DoesNotExist;"
            " got %d",
            "self.operator",
            "self.key",
            "has(self.values) ? size(self.values) : 0",
        )
    )

    key: LabelKey
    """Key of the label."""

    operator: LabelOperator
    """How to compare."""

    values: Values = ()
    """Values to compare with."""


class LabelSelector(ApiModel):
    """Conditions on labels that hold together; none matches everything."""

    match_labels: Labels = {}
    """Labels with exactly these values."""

    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=16)] = ()
    """Further conditions."""


TopologyKey = LabelKey


class PodAffinityTerm(ApiModel):
    """Other pods, and how near is near."""

    label_selector: LabelSelector | None = None
    """The other pods. Absent: none."""

    topology_key: TopologyKey
    """Node label whose equal values mean near. Example: kubernetes.io/hostname."""

    namespaces: Annotated[tuple[NamespaceName, ...], Field(max_length=16)] = ()
    """Namespaces of the other pods. Absent: the LLMDeployment's."""

    namespace_selector: LabelSelector | None = None
    """Namespaces of the other pods, by their labels."""


class PreferredPod(ApiModel):
    """A preference about other pods."""

    weight: Weight
    """Weight, 1 to 100."""

    pod_affinity_term: PodAffinityTerm
    """The other pods."""


class PodAffinity(ApiModel):
    """Nearness to other pods."""

    required_during_scheduling_ignored_during_execution: Annotated[
        tuple[PodAffinityTerm, ...], Field(max_length=16)
    ] = ()
    """What must hold."""

    preferred_during_scheduling_ignored_during_execution: Annotated[tuple[PreferredPod, ...], Field(max_length=16)] = ()
    """What is preferred."""


class Affinity(ApiModel):
    """Where serving pods run. What the plan needs of the nodes is added to it."""

    node_affinity: NodeAffinity | None = None
    """On which nodes."""

    pod_affinity: PodAffinity | None = None
    """Near which pods."""

    pod_anti_affinity: PodAffinity | None = None
    """Away from which pods."""


class Unsatisfiable(StrEnum):
    """What happens to a pod that would break the spread."""

    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class InclusionPolicy(StrEnum):
    """Whether nodes are counted that the pod could not run on."""

    HONOR = "Honor"
    IGNORE = "Ignore"


class TopologySpreadConstraint(ApiModel):
    """How serving pods spread over zones, racks or nodes."""

    model_config = rules(
        cel(
            "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
            "topologySpreadConstraints: minDomains (%d) needs whenUnsatisfiable DoNotSchedule",
            "self.minDomains",
        )
    )

    max_skew: Annotated[int, Field(ge=1, le=1000)]
    """Largest allowed difference in pods between two domains."""

    topology_key: TopologyKey
    """Node label whose values are the domains. Example: topology.kubernetes.io/zone."""

    when_unsatisfiable: Unsatisfiable
    """What happens to a pod that would break the spread."""

    label_selector: LabelSelector | None = None
    """Pods to count. Default: the serving pods of this LLMDeployment."""

    match_label_keys: Keys = ()
    """Labels of the new pod that the counted pods must share. Example: [pod-template-hash]."""

    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Fewest domains; only with DoNotSchedule. Absent: 1."""

    node_affinity_policy: InclusionPolicy | None = None
    """Whether node affinity limits the domains. Absent: Honor."""

    node_taints_policy: InclusionPolicy | None = None
    """Whether taints limit the domains. Absent: Ignore."""
