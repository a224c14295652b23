"""Sources of images: rendered scenes, Vehicles-OpenImage, a folder."""
