"""What is kept and shown of a study: progress, tables, files, pictures and the dashboard."""
