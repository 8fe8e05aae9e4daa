"""The content store: blobs, images, file trees and their index, shared by threads and processes."""
