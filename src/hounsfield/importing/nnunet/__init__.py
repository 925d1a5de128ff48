"""nnU-Net v2 results folders: plans and data set read as data, weights mapped, steps expressed exactly."""
