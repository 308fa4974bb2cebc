"""What happens to a request between decoding and storing: built-in plugins and webhooks."""

from chandlery.controlplane.admission.chain import AdmissionChain

__all__ = ["AdmissionChain"]
