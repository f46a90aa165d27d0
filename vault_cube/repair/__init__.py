"""What states need to repair a damaged box: packages, the places of files, accounts."""
