"""The two searches, structural and modular: where Optuna meets PyTorch."""
