"""Files into recipients.

reading     a CSV file or workbook as columns and lines   (archives, encodings, csvfiles, records,
            workbooks, packages, sheets, heads, odf, biff, cells; headers, escaping,
            origins)
mapping     which column is the address, the name, the time zone
validating  one line: a row to store, or a refusal in words   (addresses)
judging     many lines at once: the same verdicts, column by column
staging     rows into a temporary table, then into the audience, chunk by chunk
report      every line that did not get in, and why
running     one process at work on one import
jobs        the story of one import: check, store, run, resume, cancel   (locks, pace)
"""
