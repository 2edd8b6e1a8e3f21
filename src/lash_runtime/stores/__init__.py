"""Session stores: one package for each place that sessions can be kept in."""
