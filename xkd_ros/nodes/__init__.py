"""ROS 2 nodes: topics and parameters in, topics and diagnostics out; no mathematics. The only room that imports rclpy."""
