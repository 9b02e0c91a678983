"""Files from elsewhere: fetched, checked, unpacked and kept.

downloads: the files of a manifest, resumed and checked. manifests: what there is to fetch. streams: http, local files and S3 as streams.
objects: the objects of a bucket. partial: files that are fetched by halves. archives: unpacking. cache: local copies of addresses.
"""
