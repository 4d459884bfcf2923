"""The two searches, structural and modular; here Optuna meets PyTorch."""
