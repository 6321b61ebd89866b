"""What executors of the pull model fetch and bring, by signed URLs."""
