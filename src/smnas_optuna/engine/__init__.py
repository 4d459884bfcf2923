"""What is done to a detector: train, evaluate, measure, count, store. Any ``nn.Module`` of the contract will do."""
