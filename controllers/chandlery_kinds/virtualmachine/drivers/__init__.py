"""The drivers of VirtualMachine, one module each."""
