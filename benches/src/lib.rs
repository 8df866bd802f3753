//! Link emulator, traffic and benchmark scenarios in private network namespaces
