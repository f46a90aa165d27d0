Docker's configuration is JSON:
  module_and_function: file.file_exists
  args: [/etc/docker/daemon.json]
  assertion: assertTrue
