"""What can be done with objects: one module a verb, the same rules for HTTP clients and for our own controllers."""
