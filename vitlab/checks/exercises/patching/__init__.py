"""The exercises of lesson 01: cut an image into patches, join them, find a patch, count."""
