"""ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules and changes in CEL that need no webhook."""

from chandlery.controlplane.admission.policies.mutating import MutatingPolicies
from chandlery.controlplane.admission.policies.plugin import Policies

__all__ = ["MutatingPolicies", "Policies"]
