cat("library", acceptancelibrary::version(), "of", .libPaths()[1], "\n")
