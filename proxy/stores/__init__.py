"""Where budgets and limits are remembered: in this process and its state_dir, or in Redis. Not here: what a rule allows (policy/)."""
