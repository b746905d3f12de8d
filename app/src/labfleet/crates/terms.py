"""What a crate calls its parts: the profiles that it keeps to, and where our own facts stand in it."""

from __future__ import annotations

METADATA = "ro-crate-metadata.json"
README = "README.md"
REQUEST = "request.json"
"""The job's specification as it was submitted: the workflow of the crate."""
CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
    {"sha256": "https://schema.org/sha256"},
]
CRATE = "https://w3id.org/ro/crate/1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
WORKFLOW = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
FORMAL_PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
DATASET = "urn:uuid:"
"""How the identifier of a dataset begins that the request names."""
COMMIT, TREE = "urn:git:commit:", "urn:git:tree:"
"""How the identifiers of a protocol's version begin: its commit, and its content whatever the commit."""
