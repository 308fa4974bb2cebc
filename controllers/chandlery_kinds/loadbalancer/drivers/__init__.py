"""The drivers of LoadBalancer, one module each."""
