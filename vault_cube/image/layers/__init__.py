"""Make root trees and layers. Every file in this folder is part of each layer's key."""
