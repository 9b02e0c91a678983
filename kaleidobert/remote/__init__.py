"""Files from elsewhere: fetched, checked, unpacked and kept.

streams: files at http(s)://, s3:// and local paths. manifests: lists of files. downloads: the files of a manifest, resumed and checked.
archives: unpacking. cache: local copies of addresses.
"""
