"""Recipients into files that import again as they were.

table   an audience as a header and rows of text
files   such a table as CSV or XLSX, piece by piece, with flat memory
exports what a face sends
"""
