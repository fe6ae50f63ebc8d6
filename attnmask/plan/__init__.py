"""What a mask costs, before anything runs."""
