//! Framework for automatic tuning: tunables, tuners, governor, journal, trials, one epoll loop
