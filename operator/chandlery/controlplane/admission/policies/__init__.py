"""ValidatingAdmissionPolicy: rules in CEL that need no webhook."""

from chandlery.controlplane.admission.policies.plugin import Policies

__all__ = ["Policies"]
