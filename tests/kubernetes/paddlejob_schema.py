"""Reduces the training operator's definition of a PaddleJob to the parts that the manifest uses.

    python tests/kubernetes/paddlejob_schema.py kubeflow.org_paddlejobs.yaml > tests/kubernetes/paddlejob.schema.json

The definition (manifests/base/crds/kubeflow.org_paddlejobs.yaml of kubeflow/training-operator v1.9.0, Apache License
2.0) is 600 kB, nearly all of it about pods. The result contains names and types. For parts that the manifest does not
use, it contains only the names, so that an unknown name is still an error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "train" / "paddlejob.yaml"
_KEPT = ("type", "enum", "required", "anyOf", "pattern", "format", "minimum", "maximum", "maxLength", "minItems")


def schema_of(definition: Mapping[str, Any], version: str = "v1") -> dict[str, Any]:
    """Return the schema of one version of a CustomResourceDefinition."""
    found = next(one for one in definition["spec"]["versions"] if one["name"] == version)
    schema: dict[str, Any] = found["schema"]["openAPIV3Schema"]
    return schema


def reduce_schema(schema: Mapping[str, Any], used: Any) -> dict[str, Any]:
    """Return the schema without descriptions and without the content of names that are not in `used`."""
    reduced: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
    if "properties" in schema:
        reduced["properties"] = {
            name: reduce_schema(of_name, used[name]) if isinstance(used, Mapping) and name in used else {}
            for name, of_name in schema["properties"].items()
        }
        reduced["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), Mapping):
        values = list(used.values()) if isinstance(used, Mapping) else []
        reduced["additionalProperties"] = reduce_schema(schema["additionalProperties"], values[0] if values else None)
    if "items" in schema:
        items = used if isinstance(used, list) else []
        together = (
            {k: v for item in items for k, v in item.items()} if all(isinstance(i, dict) for i in items) else None
        )
        reduced["items"] = reduce_schema(schema["items"], together)
    return reduced


def main(path: Path) -> None:
    """Print the reduced schema for a definition."""
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    reduced = reduce_schema(schema_of(yaml.safe_load(path.read_text(encoding="utf-8"))), manifest)
    reduced["properties"]["metadata"] = {"type": "object"}  # validated by the API server
    reduced["$comment"] = "names and types of kubeflow/training-operator v1.9.0 (Apache-2.0): paddlejob_schema.py"
    print(json.dumps(reduced, indent=1, sort_keys=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
