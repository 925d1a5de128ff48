"""The engines that hounsfield brings; found through their entry points, never imported by name."""
