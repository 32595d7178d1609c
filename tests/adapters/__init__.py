"""What every adapter must do alike: one suite, run over each of them."""
