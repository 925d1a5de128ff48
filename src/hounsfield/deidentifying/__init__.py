"""De-identification by PS3.15 annex E: nothing stays but what is known to be safe."""
