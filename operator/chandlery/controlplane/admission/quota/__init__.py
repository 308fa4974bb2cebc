"""ResourceQuota: what objects use, what a quota covers, and taking a share before an object is made."""

from chandlery.controlplane.admission.quota.plugin import QuotaPlugin
from chandlery.controlplane.admission.quota.usage import compute_used, count_name, covers

__all__ = ["QuotaPlugin", "compute_used", "count_name", "covers"]
