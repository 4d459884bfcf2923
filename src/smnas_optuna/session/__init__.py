"""One process at work: settings, checked data, device, reference detector, listener and stop request."""
