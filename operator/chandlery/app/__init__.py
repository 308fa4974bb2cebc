"""Where everything is put together: settings, the composition root, the command line."""
