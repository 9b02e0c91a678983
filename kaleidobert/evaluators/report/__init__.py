"""Results as tables and pictures: tables* in the layout of the paper's, plots* as PNG."""
