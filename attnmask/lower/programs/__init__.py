"""Programs of several attention calls: what papers do with attention around a mask, each in a few lines."""
