module ottla/compat/checks

go 1.26.0
