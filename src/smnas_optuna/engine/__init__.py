"""Training, evaluation, latency, complexity and checkpoints of any ``nn.Module`` with the detector's contract."""
