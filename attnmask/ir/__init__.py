"""The intermediate representation: what a mask is, free of syntax and of torch."""
