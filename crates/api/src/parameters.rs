//! Parameter groups: families, their parameters, and what each parameter becomes here.
