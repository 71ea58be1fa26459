"""Models outside the catalogue: what files, folders and hubs say of themselves."""
