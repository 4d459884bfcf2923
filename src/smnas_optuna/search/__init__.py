"""Where Optuna meets PyTorch: studies whose trials are trained detectors."""
