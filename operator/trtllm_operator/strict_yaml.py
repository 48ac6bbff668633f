"""YAML as the API server reads it: a key given twice is an error."""

from __future__ import annotations

from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml makes it fast."""


def load(text: str) -> Any:
    """Parse one document. Raises yaml.YAMLError, also for a duplicate key or several documents."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _value(node, loader)
    finally:
        loader.dispose()


def _value(node: yaml.Node, loader: Any) -> Any:
    """Return the value of a node. PyYAML would take its time, and the last one of several equal keys."""
    if isinstance(node, yaml.MappingNode):
        mapping = {_value(key, loader): _value(value, loader) for key, value in node.value}
        if len(mapping) < len(node.value):
            keys = [str(key.value) for key, _ in node.value]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise yaml.constructor.ConstructorError(None, None, f"duplicate keys: {', '.join(twice)}", node.start_mark)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, loader) for item in node.value]
    return node.value if node.tag == "tag:yaml.org,2002:str" else loader.construct_object(node)
